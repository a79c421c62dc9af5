// What a tab keeps while it is open, reloads and ways to another site and back included. Other tabs do not see it.

/** False where the browser refuses: then the value lives no longer than the page. */
export function keep(name, value) {
  try {
    sessionStorage.setItem(name, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

/** Null where there is none. */
export function kept(name) {
  try {
    return JSON.parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}

export function forget(name) {
  try {
    sessionStorage.removeItem(name);
  } catch {
    // What could not be kept is not there.
  }
}

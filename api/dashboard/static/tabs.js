// The tabs: one tab list, with the keys that ARIA names for it.

export const TABS = ["users", "lifecycle", "logins", "tokens", "otp", "pipeline"];
/** Tabs whose figures are of the chosen range, so that its summary is above them. */
const WITH_SUMMARY = ["users", "logins", "tokens"];

/** @param {(tab: string) => void} onChoice */
export function tabs(onChoice) {
  const list = document.getElementById("tabs");
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) onChoice(tab.dataset.tab);
  });
  list.addEventListener("keydown", (event) => {
    const place = TABS.indexOf(event.target.dataset?.tab);
    const next = { ArrowRight: place + 1, ArrowLeft: place - 1, Home: 0, End: TABS.length - 1 }[event.key];
    if (place < 0 || next === undefined) return;
    event.preventDefault();
    const tab = TABS[(next + TABS.length) % TABS.length];
    onChoice(tab);
    document.getElementById(`tab-${tab}`).focus();
  });
}

export function showTab(chosen) {
  for (const name of TABS) {
    const tab = document.getElementById(`tab-${name}`);
    tab.setAttribute("aria-selected", String(name === chosen));
    tab.tabIndex = name === chosen ? 0 : -1;
    document.getElementById(`panel-${name}`).hidden = name !== chosen;
  }
  document.documentElement.dataset.tab = chosen;
  document.getElementById("summary").hidden = !WITH_SUMMARY.includes(chosen);
}

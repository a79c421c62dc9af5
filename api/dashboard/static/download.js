// Downloads made in the browser from the page's content.

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

export function saveText(text, name) {
  // The byte order mark makes spreadsheets read the file as UTF-8.
  save(new Blob(["\ufeff", text], { type: "text/csv;charset=utf-8" }), name);
}

/** @param {string} url a data: URL; decoded here, since the Content-Security-Policy forbids fetching it */
export function savePicture(url, name) {
  const [head, content] = url.split(",", 2);
  const bytes = Uint8Array.from(atob(content), (letter) => letter.codePointAt(0));
  save(new Blob([bytes], { type: head.slice(5).split(";")[0] }), name);
}

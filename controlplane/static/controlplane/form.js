// A form: every control has a name, an error opens its section, unsaved input asks before it is left.
const form = document.querySelector("#content-main > form");

// Stock inlines name their columns and split dates their rows, but not the controls in them.
function nameControls(within) {
  for (const control of within.querySelectorAll("input:not([type=hidden]), select, textarea")) {
    if (control.labels?.length || control.ariaLabel || control.closest(".selector")) continue;
    const cell = control.closest("td");
    const head = cell?.closest("table").tHead?.rows[0].cells[cell.cellIndex];
    const label = control.closest(".form-row")?.querySelector("label, legend");
    const part = control.classList.contains("vTimeField") ? "time" : control.classList.contains("vDateField") ? "date" : "";
    control.ariaLabel = `${(head ?? label)?.textContent.trim().replace(/:$/, "") ?? control.name} ${part}`.trim();
  }
}

if (form) {
  let changed = false;
  form.addEventListener("input", () => { changed = true; });
  form.addEventListener("submit", () => { changed = false; });
  window.addEventListener("beforeunload", (event) => { if (changed) event.preventDefault(); });
  for (const section of form.querySelectorAll("details:has(.errorlist)")) section.open = true;
  nameControls(form);
  document.addEventListener("formset:added", (event) => nameControls(event.target));
  // After the stock pickers, which are made on load too.
  window.addEventListener("load", () => {
    for (const icon of form.querySelectorAll(".search-label-icon[aria-label]")) icon.setAttribute("role", "img");
    nameControls(form);
  });
}

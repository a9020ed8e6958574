// A form with unsaved input asks before it is left; an open section that holds an error is opened.
const form = document.querySelector("#content-main > form");
if (form) {
  let changed = false;
  form.addEventListener("input", () => { changed = true; });
  form.addEventListener("submit", () => { changed = false; });
  window.addEventListener("beforeunload", (event) => { if (changed) event.preventDefault(); });
  for (const section of form.querySelectorAll("details:has(.errorlist)")) section.open = true;
}

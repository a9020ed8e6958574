// Every page: copy buttons, "/" to the search box, and menus that close as menus do. All of it is comfort.
const menus = ".cp-filter[open], .cp-user[open], .cp-drawer[open]";

// The menu is longer than the screen: where one is in it shall be seen.
const here = document.querySelector(".cp-side [aria-current]"), side = here?.closest(".cp-side");
if (here) side.scrollTop += Math.max(0, here.getBoundingClientRect().bottom - side.getBoundingClientRect().bottom + 24);

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll(menus)) {
    if (!menu.contains(event.target)) menu.open = false;
  }
  const button = event.target.closest(".cp-copy[data-copy]");
  if (button) copy(button);
});

document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") {
    for (const menu of document.querySelectorAll(menus)) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  }
  const typing = event.target.closest("input, textarea, select, [contenteditable]");
  if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    const search = document.getElementById("searchbar");
    if (search) {
      event.preventDefault();
      search.select();
    }
  }
});

// A token is gone when its page is left, also from the copy that the browser keeps for "back".
window.addEventListener("pagehide", () => {
  for (const shown of document.querySelectorAll(".cp-secret")) shown.replaceChildren();
});

// data-copy is a selector of the element to copy, or the text itself in data-text.
async function copy(button) {
  const source = document.querySelector(button.dataset.copy);
  await navigator.clipboard.writeText(button.dataset.text ?? source.textContent.trim());
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
}

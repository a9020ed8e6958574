// A list: each cell learns its column's name, so that rows can stand as cards on a phone; the sort is announced.
const table = document.getElementById("result_list");
if (table) {
  const heads = [...table.tHead.rows[0].cells];
  const labels = heads.map((head) => head.querySelector(".text")?.textContent.trim() ?? "");
  heads.forEach((head) => {
    if (head.classList.contains("sorted")) {
      head.setAttribute("aria-sort", head.classList.contains("ascending") ? "ascending" : "descending");
    }
  });
  for (const row of table.tBodies[0].rows) {
    [...row.cells].forEach((cell, index) => { cell.dataset.label = labels[index] ?? ""; });
  }
  table.closest(".results").classList.add("cp-cards-on-phones");
}

// The stock search box is named by a picture alone.
const search = document.getElementById("searchbar");
if (search && !search.ariaLabel) search.ariaLabel = search.labels[0]?.querySelector("img")?.alt ?? "Search";

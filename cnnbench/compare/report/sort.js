// A click on a head sorts the table by that column; a second click turns the order round. Empty cells stay last.
const table = document.getElementById("pairs");
const heads = table ? [...table.querySelectorAll("th[aria-sort]")] : [];

function compare(a, b) {
  return typeof a === "number" ? a - b : a.localeCompare(b, "en", { numeric: true });
}

function key(row, column, isNumber) {
  const value = row.cells[column].dataset.value;
  return value === undefined ? null : isNumber ? Number(value) : value;
}

function sort(column) {
  const head = heads[column];
  const descending = head.getAttribute("aria-sort") === "ascending";
  const isNumber = head.classList.contains("number");
  const body = table.tBodies[0];
  const keyed = [...body.rows].map((row) => [key(row, column, isNumber), row]);
  const filled = keyed.filter(([value]) => value !== null);
  const empty = keyed.filter(([value]) => value === null);
  filled.sort(([a], [b]) => (descending ? compare(b, a) : compare(a, b)));
  body.append(...filled.concat(empty).map(([, row]) => row));
  heads.forEach((other) => other.setAttribute("aria-sort", "none"));
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => sort(column)));

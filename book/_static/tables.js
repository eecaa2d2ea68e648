// Tables of class "sortable": a click on a heading sorts the rows by it, a second click the other way round, a third restores
// their order. Cells without a number ("–", "n/a", "stale", "failed") stay last in a column of numbers. Without JavaScript
// the tables stand as they are.
document.addEventListener("DOMContentLoaded", () => {
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.tBodies[0];
    const original = [...body.rows];
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, column) => {
      const text = (row) => row.cells[column].textContent.trim();
      const number = (row) => (/^[+-]?\d/.test(text(row)) ? parseFloat(text(row)) : NaN);
      const numeric = original.some((row) => !isNaN(number(row)));
      const compare = (a, b, sign) => {
        if (!numeric) return sign * text(a).localeCompare(text(b), undefined, { numeric: true });
        if (isNaN(number(a)) || isNaN(number(b))) return isNaN(number(a)) - isNaN(number(b));
        return sign * (number(a) - number(b));
      };
      const button = document.createElement("button");
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const next = { ascending: "descending", descending: "none" }[heading.getAttribute("aria-sort")] ?? "ascending";
        headings.forEach((other) => other.setAttribute("aria-sort", other === heading ? next : "none"));
        const sign = next === "descending" ? -1 : 1;
        body.append(...(next === "none" ? original : [...original].sort((a, b) => compare(a, b, sign))));
      });
    });
  }
  // Tables of class "filterable": a field above them keeps the rows that hold all of its words.
  for (const table of document.querySelectorAll("table.filterable")) {
    const rows = [...table.tBodies[0].rows].map((row) => [row, row.textContent.toLowerCase()]);
    const label = document.createElement("label");
    const field = document.createElement("input");
    const count = document.createElement("output");
    field.type = "search";
    label.className = "table-filter";
    label.append("Show rows that contain all of these words: ", field, " ", count);
    const filter = () => {
      const words = field.value.toLowerCase().split(/\s+/);
      let shown = 0;
      for (const [row, text] of rows) {
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      }
      count.textContent = `${shown} of ${rows.length}`;
    };
    field.addEventListener("input", filter);
    filter();
    table.before(label);
  }
});

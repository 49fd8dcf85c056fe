// The coverage page's filter. Without JavaScript the page shows every row.
document.addEventListener("DOMContentLoaded", () => {
  const tiles = document.querySelector(".tiles");
  if (!tiles) return;
  const rows = [...document.querySelectorAll("table.coverage tr.technique")];
  const choices = [["all", "All"], ["done", "Done"], ["built", "Built"], ["planned", "Planned"], ["beyond", "Beyond the survey"]];
  const bar = document.createElement("div");
  bar.className = "coverage-filter";
  bar.setAttribute("role", "group");
  bar.setAttribute("aria-label", "Show only rows that are");
  for (const [key, label] of choices) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = label;
    button.setAttribute("aria-pressed", String(key === "all"));
    button.addEventListener("click", () => {
      for (const other of bar.children) other.setAttribute("aria-pressed", String(other === button));
      for (const row of rows) row.hidden = key !== "all" && !row.classList.contains(`technique-${key}`);
    });
    bar.append(button);
  }
  document.querySelector(".coverage-bar").after(bar);
});

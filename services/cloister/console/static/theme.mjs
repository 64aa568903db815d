// Light, dark, or as the system has it. The choice is kept in this browser.

const CHOICES = ["system", "light", "dark"];

function apply(/** @type {string} */ choice) {
  if (choice === "system") document.documentElement.removeAttribute("data-theme");
  else document.documentElement.setAttribute("data-theme", choice);
}

const kept = localStorage.getItem("theme") ?? "system";
const chosen = CHOICES.includes(kept) ? kept : "system";
apply(chosen);

const choice = document.getElementById("theme");
if (choice instanceof HTMLSelectElement) {
  choice.value = chosen;
  choice.addEventListener("change", () => {
    localStorage.setItem("theme", choice.value);
    apply(choice.value);
  });
}

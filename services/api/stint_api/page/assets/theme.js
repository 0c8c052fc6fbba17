// The theme is a cookie, so that the server can write it into the page before anything is drawn.
const ORDER = ["", "light", "dark"];

export function switchTheme() {
  const button = document.querySelector("[data-theme-switch]");
  const root = document.documentElement;
  const name = () => (button.ariaLabel = button.title = `Theme: ${root.dataset.theme ?? "as the system"}`);
  name();
  button.addEventListener("click", () => {
    const theme = ORDER[(ORDER.indexOf(root.dataset.theme ?? "") + 1) % ORDER.length];
    if (theme) root.dataset.theme = theme;
    else delete root.dataset.theme;
    document.cookie = `stint-theme=${theme}; Path=/; SameSite=Strict; Max-Age=${theme ? 31536000 : 0}`;
    name();
    document.dispatchEvent(new Event("theme"));
  });
}

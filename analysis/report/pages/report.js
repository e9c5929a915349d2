// Light or dark: as the system is, until the button says otherwise.
(() => {
  const root = document.documentElement, button = document.getElementById("theme");
  const kept = { get: () => null, set: () => {} };
  try {
    localStorage.getItem("theme");
    kept.get = () => localStorage.getItem("theme");
    kept.set = (theme) => localStorage.setItem("theme", theme);
  } catch {} // a page from a file may have no storage
  const show = (theme) => theme && (root.dataset.theme = theme);
  show(kept.get());
  button.addEventListener("click", () => {
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    show(dark ? "light" : "dark");
    kept.set(root.dataset.theme);
  });
  // On a narrow screen the contents would fill it.
  if (matchMedia("(max-width: 70rem)").matches) document.querySelector("nav details").open = false;
  // A link to a claim opens it.
  const unfold = () => {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    if (target?.tagName === "DETAILS") target.open = true;
  };
  addEventListener("hashchange", unfold);
  unfold();
})();

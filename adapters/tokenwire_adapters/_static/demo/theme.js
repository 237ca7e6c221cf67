// Runs before the page is drawn, so that no wrong theme flashes up. The theme is in the address.
{
  const theme = new URLSearchParams(location.search).get("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}

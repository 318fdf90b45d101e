"use strict";
for (const place of document.querySelectorAll("[data-age]")) {
  const minutes = Math.round((Date.now() - Date.parse(place.dataset.age)) / 60000);
  const [n, unit] = minutes < 120 ? [minutes, "minute"] : minutes < 2880 ? [Math.round(minutes / 60), "hour"] : [Math.round(minutes / 1440), "day"];
  if (minutes > 0) place.textContent = ` (${n.toLocaleString("en")} ${unit}${n === 1 ? "" : "s"} ago)`;
}
const list = document.getElementById("cards");
if (list) {
  const tools = document.querySelector(".tools"), search = document.getElementById("search");
  const order = document.getElementById("order"), found = document.getElementById("found");
  const none = document.getElementById("nothing-found");
  const cards = [...list.children].map((card) => ({ card, text: card.textContent.toLowerCase() }));
  const show = () => {
    const parts = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { card, text } of cards) {
      card.hidden = !parts.every((part) => text.includes(part));
      shown += !card.hidden;
    }
    found.textContent = parts.length ? `${shown} of ${cards.length} cards` : "";
    none.hidden = shown > 0;
  };
  const sort = () => {
    const by = order.value;
    const value = ({ card }) => [Number(card.dataset[by]), Number(card.dataset.rank)];
    list.append(...cards.slice().sort((one, other) => {
      const [a, b] = [value(one), value(other)];
      return a[0] - b[0] || a[1] - b[1];
    }).map(({ card }) => card));
  };
  tools.addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("input", show);
  order.addEventListener("change", sort);
  tools.hidden = false;
}

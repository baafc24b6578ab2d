"use strict";
// Every chart starts as a still picture in the page; here it becomes one that answers and fits.
(() => {
  const tip = document.getElementById("tip");

  function tell(handler, event, item, value) {
    tip.hidden = !value;
    if (!value) return;
    const list = document.createElement("dl");
    for (const [name, text] of Object.entries(value)) {
      if (text === "" || text == null || text === "null" || text === "undefined") continue;
      const term = list.appendChild(document.createElement("dt"));
      term.textContent = name;
      list.appendChild(document.createElement("dd")).textContent = text;
    }
    tip.replaceChildren(list);
    const touch = event.changedTouches ? event.changedTouches[0] : event;
    const { width, height } = tip.getBoundingClientRect();
    const left = Math.min(touch.clientX + 14, window.innerWidth - width - 8);
    const below = touch.clientY + 18;
    const fits = below + height < window.innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${fits ? below : Math.max(8, touch.clientY - height - 12)}px`;
  }

  for (const box of document.querySelectorAll("[data-chart]")) {
    const spec = JSON.parse(document.getElementById(box.dataset.chart).textContent);
    let shown = box.clientWidth;
    const drawing = document.createElement("div");
    const options = { actions: false, defaultStyle: false, renderer: "svg", tooltip: tell };
    vegaEmbed(drawing, { ...spec, width: shown }, options).then(({ view }) => {
      box.replaceChildren(drawing);
      box.dataset.drawn = "";
      new ResizeObserver(() => {
        if (box.clientWidth === shown || !box.clientWidth) return;
        shown = box.clientWidth;
        view.width(shown).runAsync();
      }).observe(box);
    });
  }

  addEventListener("beforeprint", () => {
    for (const part of document.querySelectorAll("details")) part.open = true;
  });
})();

// Live figures inside the chapters. A chapter holds `<div class="live" data-figure="bins">`; it
// becomes a figure with sliders here. With `data-instead` it takes the place of the picture above.
// If anything is missing, the picture stays.
import {addStyle, make} from "./draw.js"

const BASE = new URL(".", import.meta.url)

// The picture that stands where there is no JavaScript: in the cell above the figure.
function pictureAbove(root) {
  let above = root.previousElementSibling
  while (above && !above.matches(".cell")) above = above.previousElementSibling
  return above?.querySelector(".cell-output-display:has(img, svg)")
}

async function mount(root, data) {
  const {draw} = await import(new URL(`figures/${root.dataset.figure}.js`, BASE))
  root.classList.add("live-figure")
  if (root.dataset.title) root.append(make("p", {class: "live-title"}, root.dataset.title))
  try { await draw(root, data) }
  catch (error) {
    root.replaceChildren()
    throw error
  }
  if ("instead" in root.dataset) pictureAbove(root)?.setAttribute("hidden", "")
}

async function mountAll() {
  const roots = [...document.querySelectorAll("[data-figure]")]
  const answer = await fetch(new URL("figures.json", BASE)).catch(() => null)
  if (!answer?.ok) return
  const data = await answer.json()
  addStyle()
  for (const root of roots) mount(root, data).catch(console.error)
}

mountAll()

// A picture is enlarged by a click. Where it is one of a group (image, truth, prediction, errors), a click on the large
// picture or an arrow key goes on to the next of the group, at the same place, so that they can be compared; a click
// beside it closes it.
const dialog = document.querySelector("dialog");
const large = dialog.querySelector("img"), words = dialog.querySelector("p");
let group = [], place = 0;
const show = (step) => {
  place = (place + step + group.length) % group.length;
  large.src = group[place].src;
  large.alt = group[place].alt;
  large.style.setProperty("--ratio", group[place].naturalWidth / group[place].naturalHeight);
  if (words) words.textContent = group[place].alt + (group.length > 1 ? ` (${place + 1} of ${group.length})` : "");
};
for (const picture of document.querySelectorAll("img.zoom")) {
  picture.tabIndex = 0;
  picture.role = "button";
  picture.addEventListener("click", () => {
    const figure = picture.closest(".example");
    group = figure ? [...figure.querySelectorAll("img.zoom")] : [picture];
    place = group.indexOf(picture);
    dialog.classList.toggle("fitted", figure !== null);
    show(0);
    dialog.showModal();
  });
  picture.addEventListener("keydown", (event) => { if (event.key === "Enter") picture.click(); });
}
dialog.addEventListener("click", (event) => { if (event.target === large && group.length > 1) show(1); else dialog.close(); });
dialog.addEventListener("keydown", (event) => {
  if (event.key === "ArrowRight") show(1);
  if (event.key === "ArrowLeft") show(-1);
});

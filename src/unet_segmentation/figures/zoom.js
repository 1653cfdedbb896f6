const dialog = document.querySelector("dialog");
for (const picture of document.querySelectorAll("img.zoom"))
  picture.addEventListener("click", () => { dialog.firstChild.src = picture.src; dialog.showModal(); });
dialog.addEventListener("click", () => dialog.close());

"""The list of problems."""

import pandas as pd

from unet_segmentation.data.onboarding.list_problems import list_problems


def test_problems(tmp_path):
    conf = tmp_path / "conf"
    texts = {
        "pets": "# Pets: cats and dogs. More.\nsource: {archives: [{url: https://x.org/a.zip}], images: '{id}.jpg', "
        "license: CC BY}\nclasses: [a, b, c]\n",
        "own": "# own: mine\nsource: {folder: files, images: '{id}.png'}\nclasses: [a, b]\n",
        "lost": "source: {folder: /nowhere/at/all, images: '{id}.png'}\nclasses: [a, b]\n",
        "hand": "source: {archives: [{page: https://x.org, file: a.zip}], images: '{id}.png'}\n",
        "drawn": "source: {generator: {name: cells}, images: '{id}.png'}\nclasses: [a, b]\n",
        "broken": "source: [\n",
        "odd": "just words\n",
        "template": "source: {}\n",
        "test": "source: {}\n",
        "base": "training: {}\n",
    }
    for name, text in texts.items():
        (conf / name).mkdir(parents=True)
        (conf / name / "parameters.yml").write_text(text)
    (tmp_path / "files").mkdir()
    archive = tmp_path / "data/01_raw/pets/archives/a.zip"
    archive.parent.mkdir(parents=True)
    archive.touch()
    table = tmp_path / "data/03_primary/own/samples.parquet"
    table.parent.mkdir(parents=True)
    pd.DataFrame({"sample_id": list("abcde")}).to_parquet(table)
    result = {problem.name: problem for problem in list_problems(tmp_path, conf)}
    assert list(result) == ["broken", "drawn", "hand", "lost", "odd", "own", "pets"]
    assert (result["pets"].title, result["pets"].classes, result["pets"].license) == ("Pets: cats and dogs", 3, "CC BY")
    assert (result["own"].title, result["own"].samples) == ("mine", 5)
    assert result["pets"].samples is None
    assert {name: problem.data for name, problem in result.items() if name not in {"broken", "odd"}} == {
        "pets": "downloaded",
        "own": "here",
        "lost": "missing: /nowhere/at/all",
        "hand": "to be got by hand",
        "drawn": "drawn when needed",
    }
    assert "cannot be read" in result["broken"].title

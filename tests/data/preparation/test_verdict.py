"""The verdict's message says which files, what is in them, and the YAML that declares it."""

import json
import time

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from tests.data.preparation.fabrication import mask, picture
from unet_segmentation.data.audit.findings import KINDS, Finding, findings_table
from unet_segmentation.data.audit.resolution import ALLOWED_KINDS, resolve_findings
from unet_segmentation.data.audit.result import AuditResult
from unet_segmentation.data.audit.verdict import audit_result
from unet_segmentation.errors import ConfigurationError, DataError
from unet_segmentation.parameters.data import InspectionParameters, MaskParameters


def _judge(fabricated, classes=("a", "b"), **masks):
    inspected, findings, _ = fabricated.inspect(classes, **masks)
    inspection = InspectionParameters()
    resolved = resolve_findings(findings, inspected, inspection)
    result = audit_result(resolved, inspected, list(classes), MaskParameters(**masks), inspection)
    result.raise_if_failed()
    return result


def _proposed(fabricated, classes, **masks):
    """Get the refusal, and the verdict under the declaration that it proposes."""
    with pytest.raises(DataError) as caught:
        _judge(fabricated, classes, **masks)
    line = next(line for line in str(caught.value).splitlines() if line.strip().startswith("masks:"))
    declaration = yaml.safe_load(line)["masks"]
    return str(caught.value), declaration, _judge(fabricated, classes, **declaration)


def test_good_data_pass(fabricated):
    fabricated.add("s", picture(), [mask()])
    verdict = _judge(fabricated)
    assert verdict.status == "passed"
    assert verdict.counts == {"error": 0, "warning": 0, "note": 1}
    assert verdict.kinds == {"mask_values": 1}


def test_warnings_pass_and_are_told(fabricated):
    fabricated.add("s", np.full((8, 10, 3), 7, np.uint8), [mask()])
    verdict = _judge(fabricated)
    assert verdict.status == "passed with warnings"
    assert verdict.messages[0] == "warning: images of one constant value: images/s.png: every value is 7"


def test_proposes_three_gray_values_for_three_classes(fabricated):
    for number in range(9):
        fabricated.add(f"s{number}", picture(number), [mask(number, options=(0, 128, 255))])
    message, declaration, verdict = _proposed(fabricated, ["background", "cytoplasm", "nucleus"])
    assert declaration == {"encoding": "index", "values": {0: "background", 128: "cytoplasm", 255: "nucleus"}}
    assert "masks with undeclared values: 9" in message
    assert "masks/s0_0.png: 128" in message
    assert "masks/s5_0.png" not in message
    assert "and 4 more" in message
    assert verdict.counts["error"] == 0


def test_black_and_white_masks_of_two_classes(fabricated):
    fabricated.add("s", picture(), [mask(options=(0, 255))])
    message, declaration, _ = _proposed(fabricated, ["membrane", "cell"])
    assert declaration["values"] == {0: "membrane", 255: "cell"}
    assert "encoding: threshold" in message


def test_soft_masks_of_two_classes_get_a_threshold(fabricated):
    values = np.concatenate([np.arange(12), np.arange(240, 256), [60, 99]])
    fabricated.add("s", picture(size=(40, 40)), [mask(size=(40, 40), options=values)])
    _, declaration, _ = _proposed(fabricated, ["a", "b"])
    assert declaration == {"encoding": "threshold", "threshold": 127}


def test_one_value_too_many_is_proposed_as_ignored(fabricated):
    fabricated.add("s", picture(), [mask(options=(0, 1, 11))])
    message, declaration, _ = _proposed(fabricated, ["a", "b"])
    assert declaration == {"encoding": "index", "ignore": [11]}
    assert "would be ignored" in message


def test_what_is_declared_stays_in_the_proposal(fabricated):
    fabricated.add("s", picture(), [mask(options=(0, 100, 200))])
    _, declaration, _ = _proposed(fabricated, ["a", "b"], values={0: "b", 200: "a"})
    assert declaration == {"encoding": "index", "values": {0: "b", 200: "a"}, "ignore": [100]}


def test_colored_masks(fabricated):
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)
    for number in range(3):
        fabricated.add(f"s{number}", picture(number), [colors[mask(number, options=(0, 1, 2))]])
    _, declaration, _ = _proposed(fabricated, ["a", "b", "c"])
    assert declaration["encoding"] == "colors"
    assert sorted(declaration["colors"].values()) == sorted(colors.tolist())


def test_one_undeclared_color(fabricated):
    colors = np.array([[0, 0, 0], [255, 0, 0], [9, 9, 9]], np.uint8)
    fabricated.add("s", picture(), [colors[mask(options=(0, 1, 2))]])
    given = {"encoding": "colors", "colors": {"a": [0, 0, 0], "b": [255, 0, 0]}}
    _, declaration, _ = _proposed(fabricated, ["a", "b"], **given)
    assert declaration == given | {"ignore_colors": [[9, 9, 9]]}


def test_values_beyond_any_guess_are_not_guessed(fabricated):
    fabricated.add("s", picture(size=(64, 64)), [mask(size=(64, 64), options=range(256))])
    with pytest.raises(DataError, match="save the masks without loss") as caught:
        _judge(fabricated, ["a", "b", "c"])
    assert "other values" in str(caught.value)


def test_all_kinds_of_errors_stand_in_one_message(fabricated):
    fabricated.add("good", picture(1), [mask(1)])
    fabricated.add("small", picture(), [mask(size=(4, 4))])
    fabricated.add("alone", picture(2), [])
    fabricated.add("lost", "", [mask(3)])
    fabricated.add("torn", picture(4, (64, 64)), [mask(4, (64, 64))])
    torn = fabricated.root / "images/torn.png"
    torn.write_bytes(torn.read_bytes()[:1000])
    Image.fromarray(picture(5)).save(fabricated.root / "images/good.tif")
    with pytest.raises(DataError) as caught:
        _judge(fabricated)
    message = str(caught.value)
    for part in (
        "images/torn.png: is damaged",
        "images without a mask: 1\n  images/alone.png: has no mask",
        "masks without an image: 1\n  masks/lost_0.png",
        "images/small.png: is 10 x 8, its mask masks/small_0.png 4 x 4",
        "source.masks",
        "5 samples inspected",
    ):
        assert part in message


def test_an_empty_data_set_and_an_absent_class(fabricated):
    with pytest.raises(DataError, match="no samples"):
        _judge(fabricated)
    fabricated.add("s", picture(), [mask()])
    with pytest.raises(DataError, match="classes that occur in no mask: 1\n  c\n  Remove the class"):
        _judge(fabricated, ("a", "b", "c"))


def _samples(count=10, **splits):
    """Make a table of samples "0", "1", ...; splits name those of validation and test, the rest is for training."""
    ids = [str(number) for number in range(count)]
    by_id = {sample_id: split for split, members in splits.items() for sample_id in members}
    return pd.DataFrame({"sample_id": ids, "split": [by_id.get(name, "train" if splits else None) for name in ids]})


def _verdict(samples, *findings, classes=("a", "b"), masks=None, **inspection):
    parameters = InspectionParameters(**inspection)
    resolved = resolve_findings(findings_table(findings), samples, parameters)
    result = audit_result(resolved, samples, list(classes), masks or MaskParameters(), parameters)
    assert AuditResult.model_validate_json(result.model_dump_json()) == result
    return result


def _broken(sample_id, kind="unreadable_image"):
    return Finding(kind, "is damaged", sample_id=sample_id, file=f"images/{sample_id}.png")


def _identical(first, second):
    message = f"is identical to images/{second}.png"
    return Finding("identical_across_splits", message, sample_id=first, file=f"images/{first}.png", other=second)


def test_a_verdict_without_errors_stops_nothing():
    verdict = _verdict(_samples())
    assert (verdict.status, verdict.message, verdict.set_aside) == ("passed", "", ())
    verdict.raise_if_failed()


def test_errors_fail_and_judge_raises_the_whole_message():
    verdict = _verdict(_samples(), _broken("3"), Finding("rare_class", "b: 0.1%"))
    assert verdict.status == "failed"
    assert verdict.counts == {"error": 1, "warning": 1, "note": 0}
    with pytest.raises(DataError) as caught:
        verdict.raise_if_failed()
    assert str(caught.value) == verdict.message
    assert "images that cannot be read: 1\n  images/3.png: is damaged\n  Replace or remove" in verdict.message


def test_quarantine_sets_bad_samples_aside_and_says_which():
    results = [
        _broken("7"),
        _broken("3"),
        _broken("3", "missing_mask"),
        Finding("alpha_dropped", "note", sample_id="1"),
    ]
    verdict = _verdict(_samples(), *results, on_error="quarantine")
    assert verdict.status == "passed with warnings"
    assert verdict.set_aside == ("3", "7")
    assert verdict.kinds["set_aside"] == 2
    assert verdict.counts == {"error": 0, "warning": 2, "note": 4}
    assert verdict.messages[0].startswith("warning: samples that were set aside because of errors: images/7.png: ")
    assert "is damaged (unreadable_image) (and 1 more)" in verdict.messages[0]
    verdict.raise_if_failed()


@pytest.mark.parametrize("kind", ["absent_class", "mixed_depths", "mixed_channels", "too_few_samples", "no_samples"])
def test_quarantine_does_not_help_where_no_sample_is_to_blame(kind):
    verdict = _verdict(_samples(), _broken("3"), Finding(kind, "of the data set"), on_error="quarantine")
    assert verdict.status == "failed"
    assert "1 sample could be set aside, but these errors would stay" in verdict.message
    assert KINDS[kind].heading in verdict.message
    assert "images/3.png" not in verdict.message


@pytest.mark.parametrize(("bad", "status"), [(5, "passed with warnings"), (6, "failed"), (10, "failed")])
def test_quarantine_of_more_than_half_is_a_wrong_declaration(bad, status):
    verdict = _verdict(_samples(), *(_broken(str(number)) for number in range(bad)), on_error="quarantine")
    assert verdict.status == status
    if status == "failed":
        assert f"Errors in {bad} of 10 samples" in verdict.message
        assert "wrong declaration" in verdict.message
        assert verdict.set_aside == ()
        assert verdict.counts["error"] == bad


def test_quarantine_leaves_no_official_split_empty():
    samples = _samples(test=["8", "9"])
    verdict = _verdict(samples, _broken("8"), on_error="quarantine")
    assert verdict.set_aside == ("8",)
    assert "warning: 1 of the samples set aside are officially for testing: scores leave them out" in verdict.messages
    verdict = _verdict(samples, _broken("8"), _broken("9"), on_error="quarantine")
    assert verdict.status == "failed"
    assert "official test split" in verdict.message


def test_of_identical_images_the_one_for_testing_stays():
    samples = _samples(validation=["5", "6"], test=["8", "9"])
    results = [_identical("0", "8"), _identical("9", "1"), _identical("2", "5")]
    verdict = _verdict(samples, *results, on_error="quarantine")
    assert verdict.set_aside == ("0", "1", "2")
    # a train, a validation and a test image that are all the same, told as pairs with the first
    verdict = _verdict(samples, _identical("0", "6"), _identical("0", "9"), on_error="quarantine")
    assert verdict.set_aside == ("0", "6")
    assert verdict.kinds == {"identical_across_splits": 2, "set_aside": 2}


def test_what_is_allowed_becomes_a_warning():
    samples, results = _samples(test=["8", "9"]), [_identical("0", "8"), _identical("1", "9")]
    assert _verdict(samples, *results).status == "failed"
    verdict = _verdict(samples, *results, allow=["identical_across_splits"])
    assert verdict.status == "passed with warnings"
    assert verdict.counts["warning"] == 2
    assert verdict.allowed == ("identical_across_splits",)


def test_leave_for_one_sample_is_leave_for_no_other():
    samples, results = _samples(test=["8", "9"]), [_identical("0", "8"), _identical("1", "9")]
    verdict = _verdict(samples, *results, allow=["identical_across_splits:8"])
    assert verdict.counts == {"error": 1, "warning": 1, "note": 0}
    assert "images/0.png" not in verdict.message
    verdict = _verdict(samples, *results, allow=["identical_across_splits:8"], on_error="quarantine")
    assert verdict.set_aside == ("1",)


def test_leave_that_nothing_needs_is_told():
    verdict = _verdict(_samples(), allow=["absent_class", "identical_across_splits:nobody"])
    assert verdict.status == "passed"
    assert list(verdict.messages) == [
        "note: inspection.allow: no finding needs absent_class",
        "note: inspection.allow: no finding needs identical_across_splits:nobody",
    ]


@pytest.mark.parametrize(
    ("entry", "output"),
    [
        ("identical_across_split", "did you mean identical_across_splits?"),
        ("zzz", "there is no kind of finding 'zzz'"),
        ("size_mismatch:7", "size_mismatch cannot be allowed"),
        ("undeclared_values", "Declare what is in the masks"),
        ("rare_class", "rare_class is a warning, which stops no run"),
    ],
)
def test_what_cannot_be_allowed_is_refused(entry, output):
    with pytest.raises(ConfigurationError, match=r"inspection\.allow") as caught:
        _verdict(_samples(), allow=[entry])
    assert output in str(caught.value)
    assert f"What may be allowed: {', '.join(ALLOWED_KINDS)}." in str(caught.value)


def test_settled_findings_tell_who_was_set_aside_and_why():
    table = findings_table(
        [_broken("3"), _broken("3", "missing_mask"), _identical("0", "8"), Finding("rare_class", "b")]
    )
    inspection = InspectionParameters(on_error="quarantine", allow=["identical_across_splits"])
    result = resolve_findings(table, _samples(test=["8"]), inspection)
    assert (result.set_aside, result.allowed) == (("3",), ("identical_across_splits",))
    assert result.states.tolist() == ["set aside", "set aside", "allowed", "warning", "warning"]
    resolved = result.table
    assert resolved["severity"].tolist() == ["note", "note", "warning", "warning", "warning"]
    assert resolved.iloc[-1][["kind", "sample_id", "file"]].tolist() == ["set_aside", "3", "images/3.png"]
    assert table["severity"].tolist() == ["error", "error", "error", "warning"]  # what was given is left alone


def test_proposals_for_labels_several_masks_and_numbers_without_a_range():
    results = [
        Finding("undeclared_labels", "Cats", sample_id="1", file="1.json", values={"Cats": 3, "rubbish": 2}),
        Finding("several_masks", "has 3 masks", sample_id="2", file="2.png"),
        Finding("no_range", "holds float32 from -0.25 to 0.5", sample_id="3", file="3.tif"),
        Finding("no_range", "holds float32 from 0.0 to 7e-1", sample_id="4", file="4.tif"),
    ]
    verdict = _verdict(_samples(), *results, classes=["other", "cat"], masks=MaskParameters(encoding="labelme"))
    texts = [(list(proposal.kinds), proposal.text) for proposal in verdict.proposals]
    assert texts == [
        (["undeclared_labels"], "masks: {encoding: labelme, labels: {Cats: cat}, ignore_labels: [rubbish]}"),
        (["several_masks"], "masks: {encoding: labelme, merge: true}"),
        (["several_masks"], "masks: {encoding: instances}"),
        (["no_range"], "images: {range: [-1.0, 1.0]}"),
    ]
    for _, text in texts:
        assert f"    {text}" in verdict.message.splitlines()


def test_files_without_a_palette_are_not_proposed_as_palettes():
    results = Finding("no_palette", "holds gray values", sample_id="1", values={"0": 50, "255": 50})
    verdict = _verdict(_samples(), results, masks=MaskParameters(encoding="palette"))
    assert verdict.proposals[0].text == "masks: {encoding: index, values: {0: a, 255: b}}"
    assert verdict.values == {"0": 0.5, "255": 0.5}


@pytest.mark.slow
def test_a_hundred_thousand_findings_are_quick_and_the_message_is_short():
    count = 100_000
    samples = pd.DataFrame({"sample_id": [f"s{n:06}" for n in range(count)], "split": [None] * count})
    values = json.dumps({f"{n},{n},0": 100 for n in range(32)})
    rows = [("error", "colored_mask", f"s{n:06}", "x" * 3000, "holds colors", values, "") for n in range(count // 2)]
    rows += [("error", "identical_across_splits", f"s{n:06}", "y", "", "", f"s{n + 1:06}") for n in range(count // 2)]
    table = pd.DataFrame(rows, columns=["severity", "kind", "sample_id", "file", "message", "values", "other"])
    for on_error in ("stop", "quarantine"):
        start = time.process_time()
        parameters = InspectionParameters(
            on_error=on_error, allow=[f"identical_across_splits:s{n:06}" for n in range(9)]
        )
        verdict = audit_result(
            resolve_findings(table, samples, parameters), samples, ["a", "b"], MaskParameters(), parameters
        )
        assert time.process_time() - start < 20  # about 1.5 s on an idle core
        assert len(verdict.message) < 10_000

"""The catalog and the pipelines agree: every entry is used, has a layer, and can be looked at."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from kedro.framework.project import configure_project, pipelines
from kedro.utils import load_obj

ROOT = Path(__file__).parents[1]
LAYERS = {"raw", "intermediate", "primary", "model input", "models", "model output", "reporting"}
# What cannot be shown: an archive, a checkpoint, weights.
WITHOUT_PREVIEW = {
    "archives_dir", "raw_dir", "packing_dir", "splitting_dir", "training_dir", "prediction_workdir",
    "initial_weights", "best_model", "last_checkpoint", "folds_dir", "cv_prediction_workdir", "release_dir",
    "export_workdir", "exported_program", "exported_onnx", "exported_model", "downloaded_models_dir", "backends_dir",
    "inference_dir", "trained_model", "release_lock",
    "sweep_dir", "search_dir", "upsampling_dir", "metric_experiment_dir", "encoders_dir",
}  # fmt: skip
NODES = {
    "data_ingestion": ["download", "verify", "extract", "index"],
    "data_preparation": ["define_label_map", "inspect", "split", "audit", "enforce_audit", "compute_statistics"],
    "augmentation": ["compose_augmentation", "preview_augmentation"],
    "lr_finder": ["find_learning_rate", "plot_learning_rate"],
    "training": ["propose_plan", "build_model", "preflight", "train", "plot_training"],
    "evaluation": [
        "predict", "count", "choose_threshold", "score", "estimate_intervals", "plot_scores", "draw_gallery",
        "find_patterns",
        "write_training_section", "write_evaluation_section", "write_gallery_section", "write_data_section", "report",
        "check_backend", "log_model",
    ],
    "leaderboard": ["rank", "plot_ranks"],
    "cross_validation": [
        "assign_folds", "train_folds", "predict_folds", "count_folds", "score_folds", "plot_folds",
        "mark_folds_completed",
    ],
    "inference": ["choose_model", "list_images", "predict_images", "draw_contact_sheet", "fail_if_any_image_failed"],
    "export": ["choose_model", "export_program", "export_onnx", "quantize", "check_parity", "publish"],
    "sweep": [
        "declare_variants", "train_variants", "rank_variants", "plot_pareto_front", "build_summary",
        "write_page", "fail_if_any_variant_failed",
    ],
    "article_claims": [
        "measure_upsampling", "measure_upsampling_costs", "compare_upsampling", "plot_upsampling",
        "draw_checkerboards", "measure_encoders", "run_metric_experiment", "train_encoders", "rank_encoders",
        "plot_encoders", "plot_metric_trust", "judge_claims", "write_speeds",
    ],
    "search": ["run_search", "plot_history", "plot_importance", "write_best"],
    "release": [
        "choose_challenger", "verify_model", "compare_with_champion", "decide", "register", "fail_if_refused",
    ],
}  # fmt: skip
BY_NAME_ONLY = {  # the default run leaves these out
    "lr_finder", "cross_validation", "leaderboard", "sweep", "search", "release", "export", "inference",
    "article_claims",
}  # fmt: skip


@pytest.fixture(scope="module")
def catalog() -> dict:
    files = sorted((ROOT / "conf" / "base").glob("catalog*.yml"))
    return {name: entry for file in files for name, entry in yaml.safe_load(file.read_text()).items()}


@pytest.fixture(scope="module")
def registered() -> dict:
    configure_project("unet_segmentation")
    return dict(pipelines)


def test_every_node_is_where_it_is_looked_for(registered):
    for name, nodes in NODES.items():
        assert {node.name for node in registered[name].nodes} == {f"{name}.{node}" for node in nodes}
    assert set(registered) == {"__default__", *NODES}
    every = {f"{name}.{node}" for name, nodes in NODES.items() if name not in BY_NAME_ONLY for node in nodes}
    assert {node.name for node in registered["__default__"].nodes} == every


def test_every_entry_is_used_and_every_dataset_is_an_entry(catalog, registered):
    datasets = {name for pipeline in registered.values() for name in pipeline.datasets()}
    assert {name for name in datasets if not name.startswith("param")} == set(catalog)


@pytest.mark.parametrize("name", sorted(BY_NAME_ONLY))
def test_what_runs_by_name_only_starts_from_what_the_default_run_leaves(name, registered):
    left = registered["__default__"].all_outputs()
    # working folders, and files that need not be there
    own = {name for name in WITHOUT_PREVIEW if name.endswith(("_dir", "_workdir"))}
    own |= {"downloaded_models_dir", "trained_model", "ensemble_models"}
    assert {entry for entry in registered[name].inputs() - own if not entry.startswith("param")} <= left
    assert not registered[name].outputs() & left


def test_every_entry_has_a_layer_and_a_path_of_its_problem(catalog):
    for name, entry in catalog.items():
        assert entry["metadata"]["kedro-viz"]["layer"] in LAYERS, name
        if entry["type"] == "kedro.io.MemoryDataset":
            continue
        assert "/${problem:}/" in entry.get("filepath", entry.get("path")) + "/", name


def test_everything_that_can_be_looked_at_has_a_preview(catalog):
    for name, entry in catalog.items():
        assert hasattr(load_obj(entry["type"]), "preview") != (name in WITHOUT_PREVIEW), name


def test_layers_have_no_cycle(catalog, registered):
    """Kedro-Viz switches all layers off when one depends on itself."""
    layer = {name: entry["metadata"]["kedro-viz"]["layer"] for name, entry in catalog.items()}
    edges = {
        (layer[source], layer[target])
        for pipeline in registered.values()
        for node in pipeline.nodes
        for source in node.inputs if source in layer
        for target in node.outputs if layer[source] != layer[target]
    }  # fmt: skip
    left = set(LAYERS)
    while left:
        free = {name for name in left if not any(target == name and source in left for source, target in edges)}
        assert free, f"a cycle among {left}"
        left -= free


@pytest.mark.slow
def test_drawing_the_graph_imports_no_heavy_library():
    code = (
        "import sys\n"
        "from kedro.framework.project import configure_project, pipelines\n"
        "configure_project('unet_segmentation')\n"
        "import unet_segmentation.cli\n"
        "from kedro.framework.project import settings\n"
        "settings.HOOKS; dict(pipelines)\n"
        "heavy = {'torch', 'lightning', 'mlflow', 'albumentations', 'segmentation_models_pytorch', 'cv2', 'sklearn'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"

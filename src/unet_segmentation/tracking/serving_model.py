"""The logged model's own code: MLflow stores this file with the model and runs it when the model is loaded."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc.model import PythonModel, PythonModelContext


class SegmentationModel(PythonModel):
    """Images in, class ids out, through the predictor that evaluation used."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the network."""
        from unet_segmentation.parameters.evaluation import InferenceParameters
        from unet_segmentation.predicting.predictor import Predictor

        values = json.loads(Path(context.artifacts["inference"]).read_text(encoding="utf-8"))
        weights = Path(context.artifacts["weights"])
        self._predictor = Predictor.from_file(weights, InferenceParameters.model_validate(values))

    def predict(
        self, context: PythonModelContext, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> Any:  # noqa: ANN401
        """Segment images.

        Args:
            context: of MLflow.
            model_input: a batch (n, height, width, channels); images of different sizes as an array of objects. Past
                MLflow's check of the signature (`unwrap_python_model()`) also one image or a list of them.
            params: none.

        Returns:
            Class ids, uint8: (n, height, width), or (height, width) for one image, or a list of masks.
        """
        if isinstance(model_input, list) or model_input.dtype == object:
            return [self._predictor.predict(np.asarray(image)) for image in model_input]
        if model_input.ndim == 3:
            return self._predictor.predict(model_input)
        return np.stack([self._predictor.predict(image) for image in model_input])

    def predict_many(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Segment images one after the other, put together to batches as evaluation does."""
        from unet_segmentation.predicting.tiles import most_probable

        return map(most_probable, self._predictor.predict_many(images))


mlflow.models.set_model(SegmentationModel())

"""The logged model's own code: MLflow stores this file with the model and runs it when the model is loaded."""

import base64
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR, INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

FORMS = ("auto", "ids", "png", "probabilities")
PNG_LEVEL = 1  # zlib's; a mask grows by a third against the best, and takes a tenth of the time


class AnswerError(MlflowException):
    """Why there is no mask, in one sentence: 400 where the client can fix it, else 500."""

    def __init__(self, reason: str, error_code: int = INVALID_PARAMETER_VALUE) -> None:
        super().__init__(reason, error_code=error_code)
        self.reason = reason

    def serialize_as_json(self) -> str:
        """Return the sentence alone; MLflow's server puts all of the input before it."""
        return json.dumps({"error_code": self.error_code, "message": self.reason})


class SegmentationModel(PythonModel):
    """Segments images with the predictor that evaluation used; images are read as for training."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the network; `context.model_config` may set `max_pixels` and `read_paths`."""
        from unet_segmentation.deployment.serving.request_images import Reader
        from unet_segmentation.inference.backends.pytorch import EagerBackend
        from unet_segmentation.inference.predictor import Predictor
        from unet_segmentation.models.model_file import load_model
        from unet_segmentation.parameters.predictor import PredictorParameters

        network, info = load_model(Path(context.artifacts["weights"]))
        inference = PredictorParameters.model_validate_json(Path(context.artifacts["inference"]).read_bytes())
        self._predictor = Predictor(info.spec, EagerBackend(network), inference)
        self._reader = Reader.of(info.spec, **context.model_config)
        # Servers call from several threads. One image after the other is as fast, and torch keeps one thread pool.
        self._network = ThreadPoolExecutor(1, "network")

    def predict(
        self,
        context: PythonModelContext | None,
        model_input: np.ndarray,  # or any of the below: MLflow warns of every other hint, and of none
        params: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Segment images.

        Args:
            context: of MLflow.
            model_input: one image or a list of them, of any sizes: the bytes of an image file, base64 of them (with or
                without the prefix of a data URL), a `pathlib.Path`, or an array (height, width, channels); a batch
                (n, height, width, channels); a table or dictionary with the column `image`.
            params: `answer`: `ids`, `png` or `probabilities`; `auto` gives ids for arrays and png for all else.

        Returns:
            For one image its result, for several a list of them: (height, width) class ids, uint8 (for a batch in one
            array (n, height, width)); a record of `mask` (a gray PNG of class ids, in base64), `height`, `width`,
            `classes` (names, in the order of the ids), `shares` (class to its share of the pixels) and `confidence`
            (mean over the pixels of the highest probability); (classes, height, width) float32.

        Raises:
            AnswerError: says in one sentence what is wrong.
        """
        from unet_segmentation.errors import ProjectError

        try:
            return self._answer(model_input, (params or {}).get("answer", "auto"))
        except ProjectError as error:
            reason = str(error)
            raise AnswerError(reason[:1].upper() + reason[1:]) from None
        except Exception as error:
            raise AnswerError(f"The model failed ({type(error).__name__}: {error})", INTERNAL_ERROR) from error

    def predict_many(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Segment arrays one after the other, in batches as in evaluation."""
        from unet_segmentation.inference.sliding_window import argmax_mask

        return map(argmax_mask, self._predictor.predict_many(images))

    def describe(self) -> dict[str, Any]:
        """Return classes, channels, the largest image and the backend."""
        return {
            "classes": list(self._predictor.spec.classes),
            "channels": self._predictor.spec.in_channels,
            "max_pixels": self._reader.max_pixels,
            "computes": self._predictor.backend.name,
        }

    def _answer(self, model_input: Any, form: str) -> Any:  # noqa: ANN401
        from unet_segmentation.deployment.serving.request_images import as_batch
        from unet_segmentation.errors import ConfigurationError

        if form not in FORMS:
            raise ConfigurationError(f"answer: {form!r} is none of {', '.join(FORMS)}")
        batch = as_batch(model_input)
        if form == "auto":
            form = "ids" if batch.arrays else "png"
        images: Iterable[np.ndarray] = self._reader.read(batch)
        if len(batch.entries) == 1:
            images = list(images)  # decoded in the calling thread; many are decoded one by one to bound the memory
        results = self._network.submit(lambda: list(self._compute(images, form))).result()
        if form == "png":
            results = [self._record(*each) for each in results]
        elif isinstance(model_input, np.ndarray) and model_input.ndim == 4:
            return np.stack(results)
        return results[0] if batch.single else results

    def _compute(self, images: Iterable[np.ndarray], form: str) -> Iterator[Any]:
        from unet_segmentation.inference.sliding_window import argmax_mask

        for probabilities in self._predictor.predict_many(images):
            if form == "probabilities":
                yield np.asarray(probabilities)
            elif form == "ids":
                yield argmax_mask(probabilities)
            else:
                yield argmax_mask(probabilities), float(probabilities.max(axis=0).mean())

    def _record(self, mask: np.ndarray, confidence: float) -> dict[str, Any]:
        import imagecodecs

        classes = self._predictor.spec.classes
        counts = np.bincount(mask.ravel(), minlength=len(classes))
        png = bytes(imagecodecs.png_encode(np.ascontiguousarray(mask), level=PNG_LEVEL))
        return {
            "mask": base64.b64encode(png).decode("ascii"),
            "height": mask.shape[0],
            "width": mask.shape[1],
            "classes": list(classes),
            "shares": {name: float(count / mask.size) for name, count in zip(classes, counts, strict=True)},
            "confidence": confidence,
        }


mlflow.models.set_model(SegmentationModel())

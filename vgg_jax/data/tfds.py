"""Data sets prepared by tensorflow-datasets as ArrayRecord, read without tensorflow and without decoding."""

from pathlib import Path

import tensorflow_datasets as tfds
from google.protobuf.message import DecodeError
from tensorflow_datasets.core.read_only_builder import builder_from_files

from vgg_jax.data.sources import STORED_SPLITS, Record
from vgg_jax.errors import InputError, MissingSplit


class TfdsSource:
    """Random access to one split of a prepared data set; picklable (it reopens where it arrives) and thread-safe."""

    def __init__(self, path: str, split: str) -> None:
        builder = _find_builder(path)
        self.class_names = _class_names(builder, path)
        stored = _stored_split(builder, path, split)
        self._origin = (path, split)
        self._split = stored
        self._data = builder.as_data_source(stored, decoders={"image": tfds.decode.SkipDecoding()})

    def __reduce__(self) -> tuple:
        return TfdsSource, self._origin

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        name = self.location(index)
        try:
            example = self._data[index]
        except (RuntimeError, ValueError, OSError, DecodeError) as error:
            raise InputError(f"{name} cannot be read ({error}); prepare the data set again") from error
        image, label, file_name = (example.get(key) for key in ("image", "label", "file_name"))
        if not isinstance(image, bytes) or label is None:
            raise InputError(f"{name} lacks its image or its label; prepare the data set again")
        return Record(image, int(label), file_name.decode(errors="replace") if file_name else name)

    def location(self, index: int) -> str:
        """The split and the position in it."""
        return f"{self._origin[0]} {self._split}[{index}]"


def tfds_source(path: str | Path, split: str) -> TfdsSource:
    """Open split train, val or test of a data set that TFDS has prepared with file_format="array_record".

    `path` is the directory of one prepared version (`.../imagenette/full-size-v2/1.0.0`) or a TFDS name
    (`imagenette/full-size-v2`, `mnist:3.0.1`), which is looked up among the prepared sets of the data directory that
    the environment's TFDS_DATA_DIR names (~/tensorflow_datasets by default). `val` is the stored `val`, else
    `validation`, else `test`. The features must be `image` (an Image) and `label` (a ClassLabel). Raises InputError for
    what is not so.
    """
    return TfdsSource(str(path), split)


def _find_builder(path: str) -> tfds.core.DatasetBuilder:
    directory = Path(path)
    try:
        return tfds.builder_from_directory(directory) if directory.is_dir() else builder_from_files(path)
    except (ValueError, OSError) as error:
        raise InputError(
            f"'{path}' is neither the directory of a prepared TFDS version (dataset_info.json, features.json)"
            f" nor the name of one in {tfds.core.constants.DATA_DIR}; give the version's directory or set TFDS_DATA_DIR"
        ) from error


def _stored_split(builder: tfds.core.DatasetBuilder, path: str, split: str) -> str:
    if builder.info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise InputError(
            f"'{path}' is stored as {builder.info.file_format.value}, which allows no random access; prepare it with"
            " file_format='array_record'"
        )
    stored = next((name for name in STORED_SPLITS[split] if name in builder.info.splits), None)
    if stored is None:
        found = ", ".join(sorted(builder.info.splits)) or "none"
        raise MissingSplit(
            f"'{path}' has no split '{split}' (splits found: {found}); expected {' or '.join(STORED_SPLITS[split])}"
        )
    missing = [file for file in builder.info.splits[stored].filepaths if not file.exists()]
    if missing:
        raise InputError(
            f"'{path}' lacks {len(missing)} shards of split '{stored}' (first {missing[0].name}); prepare again"
        )
    return stored


def _class_names(builder: tfds.core.DatasetBuilder, path: str) -> tuple[str, ...]:
    features = builder.info.features
    by_name = dict(features.items()) if isinstance(features, tfds.features.FeaturesDict) else {}
    image, label = by_name.get("image"), by_name.get("label")
    if not (isinstance(image, tfds.features.Image) and isinstance(label, tfds.features.ClassLabel)):
        raise InputError(f"'{path}' has the features {features}; expected an Image 'image' and a ClassLabel 'label'")
    return tuple(label.names)

"""A trained net as one file that runs without this package: ONNX, or StableHLO of jax.export."""

from vgg_jax.export.formats import TOLERANCE, check_export, export_net
from vgg_jax.export.onnx_graph import export_onnx
from vgg_jax.export.program import FORMS, LAYOUTS
from vgg_jax.export.stablehlo import export_stablehlo

__all__ = ["FORMS", "LAYOUTS", "TOLERANCE", "check_export", "export_net", "export_onnx", "export_stablehlo"]

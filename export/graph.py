"""Weights → ONNX → fused → lean → int8 → optimised.

*Fused*: onnxruntime's BERT fusion makes one node each of the embedding sum and its norm, of attention, of bias + GELU.
*Lean*: ids are the only input, token type 0 is folded into the position table, no mask, mean pooling and L2 norm inside
the graph, the word table in int8 with a scale per word. *int8*: weights per output channel; activations are quantised
as they come. *Optimised*: what onnxruntime would otherwise work out at every start, so that the file is what runs.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.steps import ExportError
from router.encoder import INPUT, OUTPUT

OPSET = 18  # the first in which ReduceMean takes its axes as an input; optimum's own default for BERT too
FUSED_PER_LAYER = {"Attention": 1, "LayerNormalization": 2, "BiasGelu": 1}
QUANTISED = ["Attention", "MatMul"]
# The one fusion that costs: onnxruntime's SkipLayerNormalization on the CPU takes five times as long as an Add and a
# LayerNormalization (130 tokens: 266 against 50 µs, twelve times per run), so it is kept from happening.
UNWANTED_FUSION = "SkipLayerNormFusion"


def export_onnx(source: Path, work: Path) -> Path:
    """optimum's export of the encoder in `source` to `work`/model.onnx."""
    from optimum.exporters.onnx import main_export

    with _quiet():
        main_export(
            str(source), work, task="feature-extraction", library_name="transformers", opset=OPSET, do_validation=False
        )
    return work / "model.onnx"


def fuse(plain: Path, config: Path, fused: Path) -> dict[str, int]:
    """onnxruntime's BERT fusion; returns how many nodes of each kind are left. ExportError where one did not fuse."""
    from onnxruntime.transformers.fusion_options import FusionOptions
    from onnxruntime.transformers.optimizer import optimize_model

    sizes = json.loads(config.read_text())
    options = FusionOptions("bert")
    options.use_raw_attention_mask(True)
    options.enable_skip_layer_norm = False  # see UNWANTED_FUSION
    options.enable_bias_skip_layer_norm = False
    with _quiet():
        # opt_level 0: onnxruntime's own passes run at load anyway; run here first, they hide patterns from the fusion.
        model = optimize_model(
            str(plain),
            model_type="bert",
            num_heads=sizes["num_attention_heads"],
            hidden_size=sizes["hidden_size"],
            optimization_options=options,
            opt_level=0,
        )
        model.save_model_to_file(str(fused))
    counts = Counter(node.op_type for node in model.model.graph.node)
    wanted = {kind: per * sizes["num_hidden_layers"] for kind, per in FUSED_PER_LAYER.items()}
    wanted["EmbedLayerNormalization"] = 1
    missing = {kind: number for kind, number in wanted.items() if counts[kind] != number}
    if missing:
        raise ExportError(f"fusion incomplete: wanted {missing}, the graph has {dict(counts)}")
    return dict(counts)


def make_lean(fused: Path, lean: Path, *, int8_words: bool = True) -> None:
    """Ids in, unit vectors out: int32 (batch, tokens) → float32 (batch, hidden). All rows of a batch equally long."""
    model = onnx.load(str(fused))
    graph = model.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type == "EmbedLayerNormalization":
            nodes.extend(_embedding_nodes(graph, tensors, node, int8_words))
        elif node.op_type != "Cast":  # the casts of the three inputs to int32
            if node.op_type == "Attention":
                del node.input[3:]  # the mask: without padding there is nothing to mask
            nodes.append(node)
    hidden = int(tensors["embeddings.LayerNorm.weight"].dims[0])
    nodes.append(helper.make_node("ReduceMean", [graph.output[0].name, "token_axis"], ["mean"], keepdims=0))
    nodes.append(helper.make_node("LpNormalization", ["mean"], [OUTPUT], axis=1, p=2))
    graph.initializer.append(numpy_helper.from_array(np.array([1], dtype=np.int64), "token_axis"))
    _replace(graph.node, nodes)
    _replace(graph.input, [helper.make_tensor_value_info(INPUT, TensorProto.INT32, ["batch", "tokens"])])
    _replace(graph.output, [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", hidden])])
    _replace(graph.value_info, [])
    onnx.checker.check_model(model)
    onnx.save(model, str(lean))


def _embedding_nodes(
    graph: onnx.GraphProto, tensors: dict[str, onnx.TensorProto], fused: onnx.NodeProto, int8_words: bool
) -> list[onnx.NodeProto]:
    """Word + position (with token type 0 in it) → LayerNormalization, in place of the fused node.

    onnxruntime's quantised form of that node has one scale for the whole table, and a slow norm; here each word has
    its own, which also brings the embedding nearer to fp32.
    """
    words, positions, kinds = (tensors[fused.input[index]] for index in (2, 3, 4))
    folded = numpy_helper.to_array(positions) + numpy_helper.to_array(kinds)[0]
    positions.CopyFrom(numpy_helper.from_array(folded, positions.name))
    graph.initializer.remove(kinds)
    first = [
        helper.make_node("Shape", [INPUT], ["token_count"], start=1, end=2),
        helper.make_node("Slice", [positions.name, "from_zero", "token_count"], ["position"]),
    ]
    graph.initializer.append(numpy_helper.from_array(np.array([0], dtype=np.int64), "from_zero"))
    if int8_words:
        table = numpy_helper.to_array(words)
        scales = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12) / 127
        codes = np.round(table / scales).astype(np.int8)
        graph.initializer.remove(words)
        graph.initializer.append(numpy_helper.from_array(codes, "word_codes"))
        graph.initializer.append(numpy_helper.from_array(scales.astype(np.float32), "word_scales"))
        first += [
            helper.make_node("Gather", ["word_codes", INPUT], ["word_code"]),
            helper.make_node("Gather", ["word_scales", INPUT], ["word_scale"]),
            helper.make_node("Cast", ["word_code"], ["word_float"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["word_float", "word_scale"], ["word"]),
        ]
    else:
        first.append(helper.make_node("Gather", [words.name, INPUT], ["word"]))
    epsilon = next(attribute.f for attribute in fused.attribute if attribute.name == "epsilon")
    return [
        *first,
        helper.make_node("Add", ["word", "position"], ["word_and_position"]),
        helper.make_node(
            "LayerNormalization", ["word_and_position", *fused.input[5:7]], fused.output[:1], axis=-1, epsilon=epsilon
        ),
    ]


def quantise(lean: Path, int8: Path, *, reduce_range: bool) -> None:
    """Dynamic int8 quantisation, per channel.

    `reduce_range` keeps weights to 7 bits: processors without VNNI add pairs of 8-bit products in 16 bits, where full
    range would saturate.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():
        quantize_dynamic(
            str(lean),
            str(int8),
            op_types_to_quantize=QUANTISED,
            per_channel=True,
            reduce_range=reduce_range,
            weight_type=QuantType.QInt8,
            # Fused nodes are unknown to onnx's shape inference, so the quantiser has to be told their type.
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )


def optimise(int8: Path, optimised: Path) -> None:
    """onnxruntime's own passes, done once: dynamically quantised matrix products become one node with their bias.

    Extended level, for that is the last whose result runs on every processor.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(optimised)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(
        str(int8), options, providers=["CPUExecutionProvider"], disabled_optimizers=[UNWANTED_FUSION]
    )
    model = onnx.load(str(optimised))
    # It declares every operator set that it knows; another version of it may not know them all.
    used = {node.domain for node in model.graph.node}
    _replace(model.opset_import, [entry for entry in model.opset_import if entry.domain in used])
    _replace(model.metadata_props, [])
    model.producer_name, model.doc_string = "virtusoul-router export", ""
    onnx.save(model, str(optimised))


def _replace(field: object, items: Sequence[object]) -> None:
    """Set a repeated protobuf field."""
    del field[:]  # type: ignore[attr-defined]
    field.extend(items)  # type: ignore[attr-defined]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The libraries' warnings and notes are about their own next versions; a failure still raises."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

"""onnxruntime's own operators (domain com.microsoft) that its CPU provider runs on every supported version.

The kernels that 1.23.2 and 1.31.1 both list, `onnxruntime.capi.onnxruntime_pybind11_state.get_all_opkernel_def()`,
without whole generation loops (BeamSearch, GreedySearch, Sampling, WhisperBeamSearch), text (Tokenizer) and tests
(SampleOp).
"""

from __future__ import annotations

# fmt: off
CONTRIB = frozenset(
    (
        "Attention", "AttnLSTM", "BiasGelu", "BifurcationDetector", "CDist", "ConvTransposeWithDynamicPads",
        "CropAndResize", "DecoderMaskedMultiHeadAttention", "DequantizeLinear", "DynamicQuantizeLSTM",
        "DynamicQuantizeMatMul", "DynamicTimeWarping", "EmbedLayerNormalization", "ExpandDims", "FastGelu",
        "FusedConv", "FusedGemm", "FusedMatMul", "GatherBlockQuantized", "GatherND", "Gelu", "GridSample",
        "GroupQueryAttention", "Inverse", "MatMulBnb4", "MatMulFpQ4", "MatMulInteger16", "MatMulIntegerToFloat",
        "MatMulNBits", "MaxpoolWithMask", "MoE", "MultiHeadAttention", "MurmurHash3", "NGramRepeatBlock",
        "NhwcMaxPool", "Pad", "QAttention", "QEmbedLayerNormalization", "QGemm", "QLinearAdd", "QLinearAveragePool",
        "QLinearConcat", "QLinearConv", "QLinearGlobalAveragePool", "QLinearLeakyRelu", "QLinearMul",
        "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QMoE", "QuantizeLinear", "QuickGelu", "Range",
        "RotaryEmbedding", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "SparseAttention",
        "SparseToDenseMatMul", "TransposeMatMul", "Trilu", "UnfoldTensor", "Unique", "WordConvEmbedding",
    )
)
# fmt: on

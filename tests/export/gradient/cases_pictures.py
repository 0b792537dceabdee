"""One graph per form of a convolution, a pool or a resize; see test_rules."""

from __future__ import annotations

CASES = {
    "Conv": "(T[2,3,5,6] a, T[4,3,3,2] w, T[4] b) => (T[2,4,3,5] y) { y = Conv(a, w, b) }",
    "Conv, strides, pads, a rest": (
        "(T[2,2,7,6] a, T[3,2,3,3] w) => (T[2,3,4,2] y) { y = Conv<strides=[2,3], pads=[1,0,1,1]>(a, w) }"
    ),
    "Conv, dilations": "(T[1,2,7,8] a, T[3,2,3,2] w) => (T[1,3,3,5] y) { y = Conv<dilations=[2,3]>(a, w) }",
    "Conv, cells that no window reaches": (
        "(T[1,2,8,8] a, T[3,2,1,2] w) => (T[1,3,3,3] y) { y = Conv<strides=[3,3]>(a, w) }"
    ),
    "Conv, groups": (
        "(T[2,4,5,5] a, T[6,2,3,3] w, T[6] b) => (T[2,6,5,5] y) { y = Conv<group=2, pads=[1,1,1,1]>(a, w, b) }"
    ),
    "Conv, depthwise": (
        "(T[2,3,6,6] a, T[3,1,3,3] w) => (T[2,3,3,3] y) { y = Conv<group=3, strides=[2,2], pads=[1,1,1,1]>(a, w) }"
    ),
    "Conv, same": (
        '(T[1,2,6,5] a, T[3,2,4,3] w) => (T[1,3,3,3] y) { y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(a, w) }'
    ),
    "Conv, same, lower": ('(T[1,2,6,5] a, T[3,2,4,2] w) => (T[1,3,6,5] y) { y = Conv<auto_pad="SAME_LOWER">(a, w) }'),
    "Conv, one axis": "(T[2,3,8] a, T[4,3,3] w) => (T[2,4,4] y) { y = Conv<strides=[2], pads=[1,0]>(a, w) }",
    "Conv, three axes": (
        "(T[1,2,4,5,3] a, T[3,2,2,3,2] w) => (T[1,3,3,2,4] y) { y = Conv<strides=[1,2,1], pads=[0,0,1,0,0,1]>(a, w) }"
    ),
    "ConvTranspose": "(T[2,3,4,3] a, T[3,2,3,2] w, T[2] b) => (T[2,2,6,4] y) { y = ConvTranspose(a, w, b) }",
    "ConvTranspose, strides": (
        "(T[2,3,4,3] a, T[3,2,3,3] w) => (T[2,2,8,7] y) "
        "{ y = ConvTranspose<strides=[2,3], pads=[1,1,0,1], output_padding=[0,0]>(a, w) }"
    ),
    "ConvTranspose, output padding, dilations, groups": (
        "(T[2,4,3,3] a, T[4,3,2,2] w) => (T[2,6,8,6] y) "
        "{ y = ConvTranspose<strides=[2,1], output_padding=[1,0], dilations=[2,3], pads=[0,0,0,0], group=2>(a, w) }"
    ),
    "ConvTranspose, one axis": "(T[2,3,4] a, T[3,2,3] w) => (T[2,2,9] y) { y = ConvTranspose<strides=[2]>(a, w) }",
    "MaxPool": "(T[2,3,6,5] a) => (T[2,3,3,2] y) { y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(a) }",
    "MaxPool, overlap and pads": (
        "(T[2,2,6,5] a) => (T[2,2,3,3] y) { y = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(a) }"
    ),
    "MaxPool, one axis": "(T[2,3,8] a) => (T[2,3,4] y) { y = MaxPool<kernel_shape=[3], strides=[2], pads=[1,0]>(a) }",
    "AveragePool": "(T[2,3,6,5] a) => (T[2,3,3,2] y) { y = AveragePool<kernel_shape=[2,2], strides=[2,2]>(a) }",
    "AveragePool, pads left out": (
        "(T[2,2,6,5] a) => (T[2,2,3,3] y) { y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(a) }"
    ),
    "AveragePool, pads counted": (
        "(T[2,2,6,5] a) => (T[2,2,3,3] y) "
        "{ y = AveragePool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], count_include_pad=1>(a) }"
    ),
    "AveragePool, rounded up": (
        "(T[1,2,6,5] a) => (T[1,2,3,3] y) { y = AveragePool<kernel_shape=[3,2], strides=[2,2], ceil_mode=1>(a) }"
    ),
    "AveragePool, three axes": (
        "(T[1,2,4,4,4] a) => (T[1,2,2,3,2] y) { y = AveragePool<kernel_shape=[2,2,3], strides=[2,1,1]>(a) }"
    ),
    "GlobalAveragePool": "(T[2,3,4,5] a) => (T[2,3,1,1] y) { y = GlobalAveragePool(a) }",
    "GlobalMaxPool": "(T[2,3,4,5] a) => (T[2,3,1,1] y) { y = GlobalMaxPool(a) }",
    "LpPool": "(T[2,3,6,5] a) => (T[2,3,3,2] y) { y = LpPool<kernel_shape=[2,2], strides=[2,2]>(a) }",
    "LpPool, p, overlap and pads": (
        "(T[2,2,6,5] a) => (T[2,2,3,3] y) { y = LpPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1], p=3>(a) }"
    ),
    "LpPool, of ones": "(T[2,3,8] a) => (T[2,3,4] y) { y = LpPool<kernel_shape=[2], strides=[2], p=1>(a) }",
    # as many items as channels: onnx's reference, which judges here, looks at no more channels than there are items
    "LRN": "(T[6,6,3,2] a) => (T[6,6,3,2] y) { y = LRN<size=3, alpha=0.5, beta=0.6, bias=1.5>(a) }",
    "LRN, an even number of channels": "(T[5,5,2,3] a) => (T[5,5,2,3] y) { y = LRN<size=4, alpha=0.9>(a) }",
    "LRN, more than there are": "(T[3,3,4,1] a) => (T[3,3,4,1] y) { y = LRN<size=9, alpha=2.0>(a) }",
    "Resize, nearest": (
        "(T[1,2,3,4] a) => (T[1,2,6,12] y) <float[4] s = {1, 1, 2, 3}> "
        '{ y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(a, , s) }'
    ),
    "Resize, linear": (
        '(T[1,2,3,4] a) => (T[1,2,6,8] y) <float[4] s = {1, 1, 2, 2}> { y = Resize<mode="linear">(a, , s) }'
    ),
    "Resize, linear, sizes, corners": (
        "(T[1,2,3,4] a) => (T[1,2,5,7] y) <int64[4] s = {1, 2, 5, 7}> "
        '{ y = Resize<mode="linear", coordinate_transformation_mode="align_corners">(a, , , s) }'
    ),
    "Resize, smaller": (
        '(T[1,2,6,4] a) => (T[1,2,3,3] y) <int64[4] s = {1, 2, 3, 3}> { y = Resize<mode="linear">(a, , , s) }'
    ),
    "Resize, cubic": (
        '(T[1,2,4,5] a) => (T[1,2,8,7] y) <int64[4] s = {1, 2, 8, 7}> { y = Resize<mode="cubic">(a, , , s) }'
    ),
    "GridSample": "(T[2,3,4,5] a, T[2,3,2,2] b) => (T[2,3,3,2] y) { y = GridSample(a, b) }",
    "GridSample, corners": ("(T[1,2,4,3] a, T[1,3,4,2] b) => (T[1,2,3,4] y) { y = GridSample<align_corners=1>(a, b) }"),
    "GridSample, border": (
        '(T[2,2,3,4] a, T[2,5,2,2] b) => (T[2,2,5,2] y) { y = GridSample<padding_mode="border">(a, b) }'
    ),
    "GridSample, border, corners": (
        "(T[1,2,4,3] a, T[1,3,4,2] b) => (T[1,2,3,4] y) "
        '{ y = GridSample<align_corners=1, padding_mode="border">(a, b) }'
    ),
    "GridSample, nearest": '(T[2,3,4,5] a, T[2,3,2,2] b) => (T[2,3,3,2] y) { y = GridSample<mode="nearest">(a, b) }',
    "GridSample, nearest, border, corners": (
        "(T[2,2,3,4] a, T[2,5,2,2] b) => (T[2,2,5,2] y) "
        '{ y = GridSample<mode="nearest", align_corners=1, padding_mode="border">(a, b) }'
    ),
    "AffineGrid": "(T[2,2,3] a) => (T[2,3,4,2] y) <int64[4] s = {2, 1, 3, 4}> { y = AffineGrid(a, s) }",
    "AffineGrid, three axes, corners": (
        "(T[2,3,4] a) => (T[2,2,3,4,3] y) <int64[5] s = {2, 1, 2, 3, 4}> { y = AffineGrid<align_corners=1>(a, s) }"
    ),
    "Col2Im": ("(T[2,8,9] a) => (T[2,2,4,4] y) <int64[2] s = {4, 4}, int64[2] k = {2, 2}> { y = Col2Im(a, s, k) }"),
    "Col2Im, strides, pads, dilations": (
        "(T[1,12,4] a) => (T[1,2,5,6] y) <int64[2] s = {5, 6}, int64[2] k = {3, 2}> "
        "{ y = Col2Im<strides=[2,3], pads=[1,2,0,0], dilations=[1,2]>(a, s, k) }"
    ),
    "GlobalLpPool": "(T[2,3,4,5] a) => (T[2,3,1,1] y) { y = GlobalLpPool(a) }",
    "GlobalLpPool, of ones": "(T[2,3,8] a) => (T[2,3,1] y) { y = GlobalLpPool<p=1>(a) }",
    "MeanVarianceNormalization": "(T[3,2,4,2] a) => (T[3,2,4,2] y) { y = MeanVarianceNormalization(a) }",
    "MeanVarianceNormalization, axes": ("(T[3,2,4] a) => (T[3,2,4] y) { y = MeanVarianceNormalization<axes=[-1]>(a) }"),
    "GridSample, three axes": "(T[1,2,3,4,2] a, T[1,2,3,2,3] b) => (T[1,2,2,3,2] y) { y = GridSample(a, b) }",
}
OPSETS: dict[str, int] = {}

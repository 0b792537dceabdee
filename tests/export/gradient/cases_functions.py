"""One graph per form of an elementwise rule, a reduction or a normalization; see test_rules."""

from __future__ import annotations

CASES = {
    "Pow, computed exponent": "(T[2,3] p, T[3] b) => (T[2,3] y) { y = Pow(p, b) }",
    "Pow, several constant exponents": "(T[2,3] p) => (T[2,3] y) <T[3] n = {2.0, 0.0, -1.5}> { y = Pow(p, n) }",
    "Pow 0": "(T[2,3] a) => (T[2,3] y) <T n = {0.0}> { y = Pow(a, n) }",
    "Max": "(T[2,1,3] a, T[4,1] b) => (T[2,4,3] y) { y = Max(a, b) }",
    "Max, three": "(T[2,3] a, T[3] b, T c) => (T[2,3] y) { y = Max(a, b, c) }",
    "Max, one": "(T[2,3] a) => (T[2,3] y) { y = Max(a) }",
    "Min": "(T[2,1,3] a, T[4,1] b) => (T[2,4,3] y) { y = Min(a, b) }",
    "Min, the same twice": "(T[2,3] a) => (T[2,3] y) { y = Min(a, a) }",
    "Sum": "(T[2,3] a, T[3] b, T c) => (T[2,3] y) { y = Sum(a, b, c) }",
    "Mean": "(T[2,3] a, T[3] b, T c) => (T[2,3] y) { y = Mean(a, b, c) }",
    "Abs": "(T[2,3] a) => (T[2,3] y) { y = Abs(a) }",
    "CastLike": "(T[2,3] a) => (double[2,3] y) <double l = {0.0}> { d = CastLike(a, l) y = Mul(d, d) }",
    "Dropout": "(T[2,3] a) => (T[2,3] y) { y = Dropout(a) }",
    "LeakyRelu": "(T[4,5] a) => (T[4,5] y) { y = LeakyRelu<alpha=0.2>(a) }",
    "PRelu": "(T[2,3,4] a, T[3,1] s) => (T[2,3,4] y) { y = PRelu(a, s) }",
    "ThresholdedRelu": "(T[4,5] a) => (T[4,5] y) { y = ThresholdedRelu<alpha=0.3>(a) }",
    "Elu": "(T[4,5] a) => (T[4,5] y) { y = Elu<alpha=0.7>(a) }",
    "Selu": "(T[4,5] a) => (T[4,5] y) { y = Selu(a) }",
    "Celu": "(T[4,5] a) => (T[4,5] y) { y = Celu<alpha=0.7>(a) }",
    "Shrink": "(T[4,5] a) => (T[4,5] y) { y = Shrink<lambd=0.4, bias=0.3>(a) }",
    "HardSigmoid": "(T[4,5] a) => (T[4,5] y) { y = HardSigmoid<alpha=0.6>(a) }",
    "HardSwish": "(T[4,5] a) => (T[4,5] y) <T k = {3.0}> { b = Mul(a, k) y = HardSwish(b) }",
    "Softplus": "(T[2,3] a) => (T[2,3] y) { y = Softplus(a) }",
    "Softsign": "(T[2,3] a) => (T[2,3] y) { y = Softsign(a) }",
    "Mish": "(T[2,3] a) => (T[2,3] y) { y = Mish(a) }",
    "Sin": "(T[2,3] a) => (T[2,3] y) { y = Sin(a) }",
    "Cos": "(T[2,3] a) => (T[2,3] y) { y = Cos(a) }",
    "Tan": "(T[2,3] a) => (T[2,3] y) <T k = {0.3}> { b = Mul(a, k) y = Tan(b) }",
    "Sinh": "(T[2,3] a) => (T[2,3] y) { y = Sinh(a) }",
    "Cosh": "(T[2,3] a) => (T[2,3] y) { y = Cosh(a) }",
    "Asin": "(T[2,3] a) => (T[2,3] y) { b = Tanh(a) y = Asin(b) }",
    "Acos": "(T[2,3] a) => (T[2,3] y) { b = Tanh(a) y = Acos(b) }",
    "Atan": "(T[2,3] a) => (T[2,3] y) { y = Atan(a) }",
    "Asinh": "(T[2,3] a) => (T[2,3] y) { y = Asinh(a) }",
    "Acosh": "(T[2,3] p) => (T[2,3] y) <T k = {1.0}> { b = Add(p, k) y = Acosh(b) }",
    "Atanh": "(T[2,3] a) => (T[2,3] y) <T k = {0.3}> { b = Mul(a, k) c = Tanh(b) y = Atanh(c) }",
    "ReduceL1": "(T[2,3,4] a) => (T[2,1,4] y) <int64[1] x = {1}> { y = ReduceL1(a, x) }",
    "ReduceSumSquare": "(T[2,3,4] a) => (T[3] y) <int64[2] x = {0, -1}> { y = ReduceSumSquare<keepdims=0>(a, x) }",
    "ReduceLogSum": "(T[2,3,4] p) => (T[2,4] y) <int64[1] x = {1}> { y = ReduceLogSum<keepdims=0>(p, x) }",
    "ReduceLogSumExp": "(T[2,3,4] a) => (T[2,3] y) <int64[1] x = {2}> { y = ReduceLogSumExp<keepdims=0>(a, x) }",
    "ReduceMax": "(T[2,3,4] a) => (T[2,1,4] y) <int64[1] x = {1}> { y = ReduceMax(a, x) }",
    "ReduceMax, opset 17": "(T[2,3,4] a) => (T y) { y = ReduceMax<keepdims=0>(a) }",
    "ReduceMin": "(T[2,3,4] a) => (T[3] y) <int64[2] x = {0, 2}> { y = ReduceMin<keepdims=0>(a, x) }",
    "ReduceProd": "(T[2,3,4] a) => (T[2,4] y) <int64[1] x = {1}> { y = ReduceProd<keepdims=0>(a, x) }",
    "ReduceProd, with zeros": (
        "(T[3,4] a) => (T[3] y) <int64[1] x = {1}, T[3,4] k = {0, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 1}> "
        "{ b = Mul(a, k) y = ReduceProd<keepdims=0>(b, x) }"
    ),
    "CumSum": "(T[2,3,4] a) => (T[2,3,4] y) <int64 x = {1}> { y = CumSum(a, x) }",
    "CumSum, exclusive and backwards": (
        "(T[2,3,4] a) => (T[2,3,4] y) <int64 x = {-1}> { y = CumSum<exclusive=1, reverse=1>(a, x) }"
    ),
    "BatchNormalization": (
        "(T[2,3,4,5] a, T[3] s, T[3] b, T[3] m, T[3] p) => (T[2,3,4,5] y) "
        "{ y = BatchNormalization<epsilon=0.01>(a, s, b, m, p) }"
    ),
    "BatchNormalization, of rows": (
        "(T[2,3] a, T[3] s, T[3] b, T[3] m, T[3] p) => (T[2,3] y) { y = BatchNormalization(a, s, b, m, p) }"
    ),
    "InstanceNormalization": (
        "(T[2,3,4,5] a, T[3] s, T[3] b) => (T[2,3,4,5] y) { y = InstanceNormalization<epsilon=0.01>(a, s, b) }"
    ),
    "GroupNormalization": (
        "(T[2,4,3,2] a, T[4] s, T[4] b) => (T[2,4,3,2] y) "
        "{ y = GroupNormalization<num_groups=2, stash_type=11>(a, s, b) }"
    ),
    "GroupNormalization, scales per group": (
        "(T[2,4,3,2] a, T[2] s, T[2] b) => (T[2,4,3,2] y) { y = GroupNormalization<num_groups=2>(a, s, b) }"
    ),
    "LpNormalization": "(T[2,3,4] a) => (T[2,3,4] y) { y = LpNormalization<axis=1>(a) }",
    "LpNormalization 1": "(T[2,3,4] a) => (T[2,3,4] y) { y = LpNormalization<p=1>(a) }",
    "Einsum": '(T[2,3] a, T[3,4] b) => (T[2,4] y) { y = Einsum<equation="ij,jk->ik">(a, b) }',
    "Einsum, implicit": '(T[2,3] a, T[3,4] b) => (T[2,4] y) { y = Einsum<equation="ij, jk">(a, b) }',
    "Einsum, transposed": '(T[2,3,4] a) => (T[4,2,3] y) { y = Einsum<equation="abc->cab">(a) }',
    "Einsum, label of one input": '(T[2,3] a, T[4] b) => (T[4] y) { y = Einsum<equation="ij,k->k">(a, b) }',
    "Einsum, three": ('(T[2,3] a, T[3,4] b, T[4] c) => (T[2] y) { y = Einsum<equation="ij,jk,k->i">(a, b, c) }'),
    "Einsum, ellipsis": (
        '(T[5,2,3] a, T[5,3,4] b) => (T[5,2,4] y) { y = Einsum<equation="...ij,...jk->...ik">(a, b) }'
    ),
    "Einsum, attention": (
        '(T[2,3,2,4] a, T[2,5,2,4] b) => (T[2,2,3,5] y) { y = Einsum<equation="bqhd,bkhd->bhqk">(a, b) }'
    ),
}
OPSETS = {"ReduceMax, opset 17": 17, "GroupNormalization": 21, "GroupNormalization, scales per group": 20}

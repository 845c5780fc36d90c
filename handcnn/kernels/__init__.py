"""The fast code below the layers: functions from arrays to arrays, which know no layer.

convolution   a convolution, its weight gradient and its input gradient, on (N, C, H, W) arrays
im2col        the matrices that turn them into matrix products
pooling       max-pooling and its gradient
products      matrix products and the SGD update, in pieces that fit the cache
fused         a convolution and the dense layer behind it as one linear map
threads       one computation split between several cores
processes     the same for steps that are not fused, without Python's lock
memory        keeps freed memory for the next step, aligns arrays to cache lines
"""

"""Speed, below the mathematics: arrays in, arrays out, and no layer is known here.

convolution   a convolution and its two ways back, on (N, C, H, W) arrays
im2col        the matrices that turn them into products
pooling       max-pooling and its way back
products      matrix products and the SGD update, in pieces that suit the cache
fused         a convolution and the dense layer behind it as one linear map
threads       parts of one computation on several cores
memory        freed memory is kept for the next step
"""

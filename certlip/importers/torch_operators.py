"""The ATen operators that an archive may name. None touches files, devices, random state or Python objects.

Being listed means that torch may load it, not that certlip can certify it: the ONNX reader decides that.
"""

OPERATORS = frozenset(
    """
    _adaptive_avg_pool2d _assert_async _assert_scalar _assert_tensor_metadata _log_softmax
    _native_batch_norm_legit_no_training _prelu_kernel _softmax _to_copy _unsafe_view _weight_norm abs
    abs_ adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
    adaptive_max_pool2d add add_ addmm addmv alias amax amin arange argmax avg_pool1d avg_pool2d
    avg_pool3d baddbmm batch_norm bmm broadcast_to cat celu channel_shuffle chunk clamp clamp_ clamp_max
    clamp_min clone concat constant_pad_nd contiguous conv1d conv2d conv3d conv_transpose1d
    conv_transpose2d conv_transpose3d convolution cos cosine_similarity cumsum detach detach_ diag
    diagonal div div_ dot dropout einsum elu elu_ embedding eq erf exp expand expand_as eye
    feature_dropout flatten flip full full_like gather ge gelu group_norm gt hardsigmoid hardsigmoid_
    hardswish hardswish_ hardtanh hardtanh_ index index_select instance_norm layer_norm le leaky_relu
    leaky_relu_ lift_fresh_copy linalg_norm linalg_vector_norm linear log log_sigmoid log_softmax
    logsumexp lt matmul max max_pool1d max_pool2d max_pool2d_with_indices max_pool3d maximum mean min
    minimum mish mm mul mul_ mv narrow native_batch_norm native_group_norm native_layer_norm ne neg norm
    numpy_T ones ones_like outer pad permute pixel_shuffle pixel_unshuffle pow prelu prod reciprocal relu
    relu6 relu6_ relu_ repeat reshape rms_norm rsqrt rsub scalar_tensor scaled_dot_product_attention
    select selu selu_ sigmoid sigmoid_ sign silu silu_ sin size slice softmax softplus sort split
    split_with_sizes sqrt square squeeze squeeze_ stack std sub sub_ sum sym_numel sym_size sym_stride t
    topk
    tanh tanh_ tensor_split tile to transpose tril triu type_as unbind unflatten unsqueeze unsqueeze_
    upsample_bilinear2d upsample_nearest2d var vdot view view_as where zeros zeros_like
    """.split()  # noqa: SIM905
)

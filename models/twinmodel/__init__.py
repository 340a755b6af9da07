"""What a twin is: vocabulary, firmware profiles, model packages and the kernels that run them."""

"""Kernels written for one signature: a traced program of few kinds of statements, printed as LLVM IR or strict C."""

"""Where gateways bring their facts: sessions over gRPC, decoding, one writer, acknowledgement after the commit."""

"""What is wrong with a gateway, in words; what can be mended safely; and a bundle of facts for whoever helps."""

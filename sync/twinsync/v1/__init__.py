"""Generated from protos/twinsync/v1 by `make protos`; never edited by hand."""

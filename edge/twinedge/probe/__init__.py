"""Finding devices and trying them: probe, browse, test, trust; nothing here writes to a device."""

"""Work that nobody asks for: compaction, downsampling, retention, archive; in steps, by one replica alone."""

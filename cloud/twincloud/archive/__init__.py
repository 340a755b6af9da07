"""Old days of history as Parquet files, and the places they are kept in; knows no database."""

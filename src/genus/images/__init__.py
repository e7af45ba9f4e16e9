"""Station 1 for images: rows of tables, Parquet files and tar shards become a store of images and their captions."""

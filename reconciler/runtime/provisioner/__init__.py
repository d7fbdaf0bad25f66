"""Root file systems for containers: image stores and backends."""

"""cluster.yml → ClusterSpec: load (line numbers), schema, validate, model."""

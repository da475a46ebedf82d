"""From result files to tables and figures. Nothing here runs a model."""

"""Parameters of the workflow: one module per step; `imbnas.params.config` joins them into one tree."""

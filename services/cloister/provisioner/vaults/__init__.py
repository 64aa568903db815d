"""Where root keys are kept: one module for each back end, `opening` that makes the one which the settings name."""

"""Problems: equations, classification, logistic regression, and their data."""

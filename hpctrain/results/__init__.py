"""What finished or running runs have to show: tables and figures."""

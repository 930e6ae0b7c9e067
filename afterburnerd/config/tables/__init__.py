"""The tables of the configuration, a file for each concept. `config/model.py` puts them together."""

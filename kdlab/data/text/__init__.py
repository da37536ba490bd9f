"""Texts as data: tables from files or from the Hugging Face hub, labels, tokens, loaders."""

"""Tests of the whole service: servers, workers, pages, commands and clients as users start them."""

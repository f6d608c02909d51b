# Every target is an action of book/press; without make: python -m book.press ACTION
PYTHON ?= $(shell for python in python3.12 python3.13 python3.11; do \
	$$python -c "" 2>/dev/null && echo $$python && exit; done; echo python3)
ACTIONS := book test preview lab doctor accept older test-backends clean

help:
	@$(PYTHON) -m book.press

$(ACTIONS):
	@PROFILE="$(PROFILE)" CHAPTER="$(CHAPTER)" BACKEND="$(BACKEND)" MODELS="$(MODELS)" \
	$(PYTHON) -m book.press $@

.PHONY: help $(ACTIONS)

"""The routes: requests to the service, answers from it, in its own API, LibreTranslate's and DeepL's."""

"""Two sentences classified, then a small search by meaning, both on real weights. `make demo` runs it."""

from __future__ import annotations

import torch

from formers import AutoModel, AutoTokenizer, pipeline

SENTENCES = ["I've been waiting for a HuggingFace course my whole life.", "I hate this so much!"]

LIBRARY = [
    "The recipe needs two eggs, flour and a pinch of salt.",
    "Let the dough rest for an hour before you bake it.",
    "The central bank raised interest rates again.",
    "Shares fell after the company reported a loss.",
    "The striker scored twice in the final minutes.",
    "Our team lost the match on penalties.",
    "A new telescope photographed a distant galaxy.",
    "The rover found traces of water on Mars.",
    "Take the second street on the left, then cross the bridge.",
    "The night train to Vienna leaves at ten.",
    "My laptop will not start since the last update.",
    "Restart the router if the connection is slow.",
]
QUERIES = ["How do I make bread?", "What did astronomers discover?"]


def classify() -> None:
    """Print the label and the score of each of `SENTENCES`."""
    classifier = pipeline("sentiment-analysis")
    print("Sentiment\n")
    for sentence, result in zip(SENTENCES, classifier(SENTENCES), strict=True):
        print(f"  {result['label']}  {result['score']:.4f}  {sentence}")


def search() -> None:
    """Print the three sentences of `LIBRARY` that are nearest in meaning to each of `QUERIES`."""
    name = "sentence-transformers/all-MiniLM-L6-v2"
    tokenizer = AutoTokenizer.from_pretrained(name)
    model = AutoModel.from_pretrained(name)

    def embed(texts: list[str]) -> torch.Tensor:
        """Unit vectors (texts, width): the mean of the token vectors, without the padding."""
        batch = tokenizer(texts, padding=True, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**batch).last_hidden_state
        mask = batch["attention_mask"].unsqueeze(-1)
        return torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)

    nearest = (embed(QUERIES) @ embed(LIBRARY).T).topk(3)
    print("\nSearch by meaning")
    for query, scores, indices in zip(QUERIES, nearest.values.tolist(), nearest.indices.tolist(), strict=True):
        print(f"\n  {query}")
        for score, index in zip(scores, indices, strict=True):
            print(f"    {score:.3f}  {LIBRARY[index]}")


if __name__ == "__main__":
    classify()
    search()

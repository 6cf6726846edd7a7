// A manual page as roff with the man macros (groff_man(7), mandoc's man(7)), and as plain text.
import { type Style, wrap } from "../text.ts";
import type { ManualPage } from "./page.ts";

/** `version` stands in the footer. */
export function roffPage({ name, summary, sections }: ManualPage, version: string): string {
  const out = [
    `.TH ${quoted(name.toUpperCase())} 1 "" ${quoted(`ring3 ${version}`)} ${quoted("ring3 manual")}`,
    ".SH NAME",
    `${escaped(name)} \\- ${escaped(lower(summary))}`,
  ];
  for (const { heading, blocks } of sections) {
    out.push(`.SH ${quoted(heading)}`);
    for (const block of blocks) {
      if (block.kind === "text") {
        out.push(heading === "SYNOPSIS" ? `.B ${quoted(block.text)}` : escaped(block.text));
        continue;
      }
      for (const [index, [term, text]] of block.rows.entries()) {
        if (block.kind === "terms") out.push(".TP", `.B ${quoted(term)}`, escaped(text));
        else
          out.push(...(index === 0 ? [] : [".PP"]), escaped(text), ".PP", ".RS 4", ".nf", escaped(term), ".fi", ".RE");
      }
    }
  }
  return `${out.join("\n")}\n`;
}

/** The page as text for a terminal of 80 columns or more. */
export function textPage({ name, summary, sections }: ManualPage, style: Style): string {
  const indent = (text: string, by: number): string =>
    wrap(text, 76 - by)
      .split("\n")
      .map((line) => `${" ".repeat(by)}${line}`)
      .join("\n");
  const parts = [`${style.bold("NAME")}\n${indent(`${name} - ${lower(summary)}`, 4)}`];
  for (const { heading, blocks } of sections) {
    const texts = blocks.map((block) => {
      if (block.kind === "text") return indent(block.text, 4);
      return block.rows
        .map(([term, text]) =>
          block.kind === "terms"
            ? `    ${style.bold(term)}\n${indent(text, 8)}`
            : `${indent(text, 4)}\n        ${style.bold(term)}`,
        )
        .join("\n");
    });
    parts.push(`${style.bold(heading)}\n${texts.join("\n")}`);
  }
  return `${parts.join("\n\n")}\n`;
}

/** Text of a line: a dot or an apostrophe at its start would be a request, and a hyphen must stay one to be copied. */
function escaped(text: string): string {
  const plain = text.replaceAll("\\", "\\e").replaceAll("-", "\\-").replaceAll("~", "\\(ti").replaceAll("^", "\\(ha");
  return plain.replace(/^(?=[.'])/gm, "\\&");
}

/** An argument of a macro. */
function quoted(text: string): string {
  return `"${escaped(text).replaceAll('"', "\\(dq").replace(/^\\&/, "")}"`;
}

function lower(summary: string): string {
  return summary.replace(/\.$/, "");
}

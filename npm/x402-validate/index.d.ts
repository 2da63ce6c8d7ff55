/** The effect of an issue: an error makes the document invalid. */
export type Severity = "error" | "warning";

/** The format of a document, or the one by which it was checked. */
export type DocumentFormat = "v2" | "v1" | "manifest" | "legacy" | "discovery" | "openapi" | "unknown";

/** One fault of a document. */
export interface Issue {
  /** The stable code: `explain` has its page. */
  code: string;
  /** The field: `$`, `accepts[0].payTo`, `headers.PAYMENT-REQUIRED`. */
  field: string;
  /** The description of the fault, for people. */
  message: string;
  severity: Severity;
  /** The remedy, if there is one. */
  fix: string | null;
}

/** One entry of `accepts`. What is absent, or not text, is null. */
export interface Offer {
  /** The endpoint of a manifest. */
  endpoint?: string;
  index: number;
  scheme: string | null;
  /** The CAIP-2 identifier. */
  network: string | null;
  networkName: string | null;
  networkType: string | null;
  payTo: string | null;
  /** The amount in atomic units. */
  amount: string | null;
  asset: string | null;
  assetSymbol: string | null;
  assetDecimals: number | null;
  /** The amount in whole units: `0.01 USDC`. */
  humanAmount: string | null;
}

/** All issues of a document. */
export interface Report {
  /** Whether there are no errors. */
  valid: boolean;
  version: DocumentFormat;
  errors: Issue[];
  warnings: Issue[];
  /** The version 2 form of the document, if its format was recognised. */
  normalized: unknown;
  summary: Offer[];
}

/** The report on an answer, and the part that has the document. */
export interface AnswerReport extends Report {
  source: "header" | "body" | null;
}

export interface Options {
  /** Reports warnings as errors. */
  strict?: boolean;
  /** Uses the larger tables of networks and assets, not only those of the configuration rules. */
  allNetworks?: boolean;
  /** The length of the encoded header that carried the document. */
  header?: number;
}

/** An HTTP answer. Headers are a `Headers`, pairs, or an object whose values are texts or lists of them. */
export interface Answer {
  status?: number;
  /** The URL that was requested. */
  url?: string;
  headers?: Headers | Iterable<[string, string]> | Record<string, string | string[]>;
  /** The body; a value that is neither text nor bytes stands for its JSON. */
  body?: unknown;
}

/** A row of the table of codes. */
export interface CodeRow {
  code: string;
  severity: Severity;
  text: string;
}

export interface Linter {
  /**
   * Reports every issue of a document: JSON text, its bytes, or a value. It uses neither clock nor network.
   * @throws {RangeError} for a document beyond about 3 MiB; up to there one beyond 1 MiB is `INVALID_JSON`.
   */
  lint(document: unknown, options?: Options): Report;
  /** Lints the document of an answer, and the answer around it. */
  lintAnswer(answer: Answer, options?: Options): AnswerReport;
  /** The page of a code in Markdown; null if there is no such code. */
  explain(code: string): string | null;
  /** Every code, in the order of the documentation. */
  codes(): CodeRow[];
}

export const lint: Linter["lint"];
export const lintAnswer: Linter["lintAnswer"];
export const explain: Linter["explain"];
export const codes: Linter["codes"];

/** Of `x402-validate/linter.mjs`: compiles the module from its bytes or a Response, for bundlers and pages. */
export function load(source: BufferSource | Response | Promise<BufferSource | Response>): Promise<Linter>;
